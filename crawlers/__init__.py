"""Crawlers: links in, raw documents out.

service   one call for every caller: crawl(links, user, settings)
http      the same over HTTP, in the course's shape and in a plain one
links     which link means which thing, and which links are refused
fetch, browser, github/   the three ways out; guard and egress say where to
article, medium           what a person wrote, taken out of a page
store, users              one thing is one document, also for two crawls at once
"""
