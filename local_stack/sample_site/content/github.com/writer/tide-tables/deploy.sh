#!/bin/sh
# The upload key below is an example that a careless person might have committed.
KEY_ID=AKIAIOSFODNN7EXAMPLE
exec rsync -a tables/ "harbour.example:/srv/tides/"
