"""The services of docker-compose.yml as plain processes of one machine, without Docker."""
