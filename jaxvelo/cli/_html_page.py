"""A summary as one HTML file with its pictures inside, which opens without the net."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import unquote

MISSING = 'A report needs markdown-it-py. Install it: pip install "jaxvelo[tutorial]"; or leave out --report.'

# The policy keeps browsers from loading anything: all is in the file.
_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
body { max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; color: #222;
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; max-height: 36rem; }
table { border-collapse: collapse; font-size: 0.9rem; display: block; overflow-x: auto; }
th, td { padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid #e5e5e5; text-align: left; vertical-align: top; }
code { background: #f3f3f3; padding: 0.1em 0.25em; border-radius: 3px; overflow-wrap: anywhere; }
</style>
</head>
<body>
$body
</body>
</html>
""")


def require_markdown() -> None:
    """Raise an ImportError if there is nothing to make a page with."""
    try:
        import markdown_it  # noqa: F401
    except ImportError as error:
        raise ImportError(MISSING) from error


def html_page(text: str, folder: Path) -> str:
    """Make a page of a text in Markdown.

    Parameters
    ----------
    text
        The text; its first line is the title.
    folder
        Where the pictures are.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                data = base64.b64encode((folder / unquote(str(child.attrs["src"]))).read_bytes()).decode()
                child.attrs["src"] = f"data:image/png;base64,{data}"
    body = parser.renderer.render(tokens, parser.options, {})
    title = next((token.children for token in tokens if token.type == "inline"), None) or []
    return _PAGE.substitute(title=escape("".join(child.content for child in title)), body=body)
