"""Pictures of the console, to be looked at.

    python -m tests.browser.screenshots [NAME ...] [--out screenshots] [--dark] [--webp] [--scale 1] [--port 8000]

`archer-ws serve` runs in a process of its own before a model that says the same each time; the page's clock stands
still, its moving parts too, and time passes by the tokens that come. So a picture changes when the page does. The names
are those of `SCENES`. The README's picture (.github/console.webp): `three-streams --webp --scale 1.5`.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from tests.browser.screenshots.scenes import SCENES, Studio
from tests.browser.screenshots.talk import Talker
from tests.fakes.cutting_proxy import cutting_proxy
from tests.interop.browser import chromium
from tests.interop.javascript import javascript
from tests.interop.scripted_chat import address_of
from tests.processes import server


async def taken(names: list[str], out: Path, *, is_dark: bool, suffix: str, scale: float, port: int) -> None:
    """Write a picture for each name."""
    out.mkdir(parents=True, exist_ok=True)
    async with javascript() as js, chromium(js) as browser:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                async with (
                    server(
                        Talker(), *("--port", str(port)), cwd=Path(folder), capabilities=["completion", "tools"]
                    ) as sidecar,
                    cutting_proxy(address_of(sidecar)) as proxy,
                ):
                    studio = Studio(js, browser, sidecar, proxy, scale, is_dark)
                    await SCENES[name](studio, out / f"{name}{suffix}")
            print(out / f"{name}{suffix}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENES))
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--dark", action="store_true", help="all of them as they are at night")
    parser.add_argument("--webp", action="store_true", help="WebP instead of PNG")
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the picture for each of the page's")
    parser.add_argument("--port", type=int, default=8000, help="the server's; it stands in the pictures")
    options = parser.parse_args()
    if unknown := set(options.names) - set(SCENES):
        parser.error(f"there is no picture {', '.join(sorted(unknown))}; there are {', '.join(SCENES)}")
    names = options.names or list(SCENES)
    suffix = ".webp" if options.webp else ".png"
    asyncio.run(taken(names, options.out, is_dark=options.dark, suffix=suffix, scale=options.scale, port=options.port))


if __name__ == "__main__":
    main()
