"""A real headless browser, for pages that scripts build.

One browser, started when first needed, reused, replaced after a hundred pages, and
always ended: a supervisor shell leads its process group and ends the whole group when
the pipe to this process closes, however this process ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver import ChromeOptions, Remote
from selenium.webdriver.remote.client_config import ClientConfig
from urllib3.exceptions import HTTPError

from core.logging import get_logger
from crawlers import supervisor
from crawlers.fetch import USER_AGENT
from crawlers.page import Page
from crawlers.results import FetchFailed, LinkRefused
from crawlers.trust import browser_trust

if TYPE_CHECKING:
    from core.config import CrawlerConfig

# The real file, not the wrapper in /usr/bin: that does not exec, and leaves its children behind.
_BINARIES = ("/usr/lib/chromium/chromium-headless-shell", "/usr/bin/chromium")
_DRIVERS = ("/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver")
_PAGES_PER_BROWSER = 100
_PAGE_SECONDS = 30.0
_SETTLE_SECONDS = 5.0
_POLL_SECONDS = 0.15
_STILL_LOOKS = 4
_MAX_CHARACTERS = 5_000_000
_FACTS = """
const entry = performance.getEntriesByType('navigation')[0];
return [entry ? entry.responseStatus : 0, document.contentType, location.href,
        document.documentElement.outerHTML.length];
"""


@dataclass(frozen=True, kw_only=True)
class BrowserFiles:
    """Where browser and driver are on this machine."""

    binary: str
    driver: str


def find_browser() -> BrowserFiles | None:
    """The installed browser and its driver, or None where either is missing."""
    binary = next((path for path in _BINARIES if Path(path).is_file()), None)
    driver = next((path for path in _DRIVERS if Path(path).is_file()), None)
    return BrowserFiles(binary=binary, driver=driver) if binary and driver else None


class Browser:
    """Reads one page at a time; callers queue. `proxy` is the only way out it has."""

    def __init__(self, files: BrowserFiles, config: CrawlerConfig, proxy: str) -> None:
        self._files = files
        self._ca_file = config.ca_file
        self._proxy = proxy
        self._lock = threading.Lock()
        self._session: _Session | None = None

    def read(self, link: str) -> Page:
        """Load a checked link, let its scripts settle, and return the page.

        Raises FetchFailed or LinkRefused; MissingDependency where trust cannot be set up.
        """
        with self._lock:
            session = self._ready()
            try:
                return session.load(link)
            except TimeoutException as error:
                raise FetchFailed(f"The page took longer than {_PAGE_SECONDS:.0f} s.") from error
            except HTTPError as error:
                self._end()
                raise FetchFailed("The browser does not answer its driver.") from error
            except WebDriverException as error:
                if "net::ERR_" not in (error.msg or ""):
                    self._end()
                raise _translated(error) from error

    def close(self) -> None:
        """End the browser, if one runs. Idempotent."""
        with self._lock:
            self._end()

    def _ready(self) -> _Session:
        if self._session and self._session.worn:
            self._end()
        if self._session is None:
            try:
                self._session = _Session(self._files, self._proxy, self._ca_file)
            except (WebDriverException, HTTPError, OSError) as error:
                raise FetchFailed(f"The browser does not start: {_first_line(error)}") from error
        return self._session

    def _end(self) -> None:
        if self._session:
            self._session.close()
        self._session = None


class _Session:
    """One running browser with its driver, its private home and its supervisor."""

    def __init__(self, files: BrowserFiles, proxy: str, ca_file: Path | None) -> None:
        self._pages = 0
        self._home = Path(tempfile.mkdtemp(prefix="crawler-browser-"))
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._driver: Remote | None = None
        try:
            if ca_file:
                browser_trust(ca_file, self._home)
            self._supervisor = supervisor.start(files.driver, self._home)
            port = supervisor.driver_port(self._supervisor)
            self._driver = _connect(port, _options(files.binary, proxy))
        except BaseException:
            self.close()
            raise

    @property
    def worn(self) -> bool:
        """Memory grows with each page, so a browser is replaced after many."""
        return self._pages >= _PAGES_PER_BROWSER

    def load(self, link: str) -> Page:
        """Load one page; any status is a page."""
        if self._driver is None:
            raise FetchFailed("The browser is closed.")
        self._pages += 1
        self._driver.get(link)
        status, content_type, url = self._settled(self._driver)
        html = self._driver.page_source
        # The next page must not find this one's scripts, storage or cookies.
        self._driver.delete_all_cookies()
        self._driver.get("about:blank")
        if status == 0:
            # An untrusted certificate raises nothing: there is only a page without a status.
            raise FetchFailed(
                "The browser got no page: the site's certificate is not trusted, or the "
                "connection broke."
            )
        return Page(url=url, status=status, html=html, content_type=content_type)

    def _settled(self, driver: Remote) -> tuple[int, str, str]:
        """Wait until the page has kept its size for a few looks."""
        sizes: list[int] = []
        give_up = time.monotonic() + _SETTLE_SECONDS
        while True:
            status, content_type, url, size = driver.execute_script(_FACTS)
            if size > _MAX_CHARACTERS:
                raise FetchFailed(f"The page is larger than {_MAX_CHARACTERS} characters.")
            sizes.append(size)
            still = len(sizes) >= _STILL_LOOKS and len(set(sizes[-_STILL_LOOKS:])) == 1
            if still or time.monotonic() > give_up:
                return int(status), str(content_type), str(url)
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """End driver, browser and supervisor, and remove the private folder."""
        if self._driver is not None:
            with contextlib.suppress(Exception):
                self._driver.quit()
            self._driver = None
        if self._supervisor is not None:
            supervisor.stop(self._supervisor)
            self._supervisor = None
        shutil.rmtree(self._home, ignore_errors=True)


def _connect(port: int, options: ChromeOptions) -> Remote:
    address = f"http://127.0.0.1:{port}"
    config = ClientConfig(remote_server_addr=address, timeout=int(_PAGE_SECONDS) + 30)
    driver = Remote(command_executor=address, options=options, client_config=config)
    driver.set_page_load_timeout(_PAGE_SECONDS)
    driver.set_script_timeout(_PAGE_SECONDS)
    return driver


def _options(binary: str, proxy: str) -> ChromeOptions:
    options = ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-extensions",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1280,1600",
        f"--user-agent={USER_AGENT}",
        f"--proxy-server={proxy}",
        # Loopback would bypass the proxy, and WebRTC would bypass all of it.
        "--proxy-bypass-list=<-loopback>",
        "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    ):
        options.add_argument(argument)
    if not _may_sandbox():
        options.add_argument("--no-sandbox")
    return options


def _may_sandbox() -> bool:
    """The browser's own sandbox needs a user that is not root, and user namespaces, which
    most containers deny; there the container is the sandbox."""
    if os.geteuid() == 0:
        return False
    try:
        done = subprocess.run(
            ["unshare", "--user", "true"], capture_output=True, timeout=10, check=False
        )
    except OSError:
        return True
    if done.returncode:
        get_logger().warning("browser sandbox unavailable", cause="user namespaces are denied")
    return done.returncode == 0


def _translated(error: WebDriverException) -> FetchFailed | LinkRefused:
    message = error.msg or ""
    if "ERR_TUNNEL_CONNECTION_FAILED" in message:
        return LinkRefused("This host may not be reached, or does not answer.")
    if "ERR_CERT" in message:
        return FetchFailed("The site's certificate is not trusted.")
    return FetchFailed(f"The browser could not load the page: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    text = (getattr(error, "msg", None) or str(error)).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
