"""The sample site: a small piece of the web for demo, tests and trials without internet.

Pages under real names (medium.com, github.com, …) on one TLS server, and a CONNECT proxy
that knows these names and nothing else. Crawlers are sent there by CRAWLER_PROXY and
CRAWLER_CA_FILE, as to any proxy. All text is made up for this purpose.

    with sample_site(folder) as site:
        … CRAWLER_PROXY=site.proxy_url, CRAWLER_CA_FILE=site.ca_file …
        site.edit(site.links.article, "salt", "pepper")
"""

from __future__ import annotations

from local_stack.sample_site.site import Links, SampleSite, sample_site

__all__ = ["Links", "SampleSite", "sample_site"]
