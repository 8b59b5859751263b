"""The site's pages that stand elsewhere in the repository, for which it is built: `mkdocs build --strict`.

cluster/README.md, CONTRIBUTING.md and CHANGELOG.md keep the places where people look for them; the site shows them too.
"""

from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"cluster.md": "cluster/README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config) -> Files:
    """Add the pages of `PAGES`."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](../docs/", "](").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Links to those pages lead to the site's own copy, links to README to the index."""
    for page, source in PAGES.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return markdown.replace("](../README.md", "](index.md")
