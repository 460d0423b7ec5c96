"""The frame of an HTML report: document, style sheet, nothing from elsewhere."""

from __future__ import annotations

import html

__all__ = ["page"]

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f8fa; --ink: #1b1f24; --muted: #59636e; --line:
#d8dee4;
  --accent: #1f6feb; --right: #1a7f37; --wrong: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1318; --card: #171c23; --ink: #e6edf3; --muted:
#9aa4af;
  --line: #2b323b; --accent: #79b0ff; --right: #3fb950; --wrong: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 40px 28px 80px; background: var(--paper); color:
var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 52px 0 14px; font-size: 20px; letter-spacing: -0.005em; }
h3 { margin: 0 0 8px; font-size: 15px; }
p.lead { margin: -6px 0 16px; max-width: 76ch; color: var(--muted); }
.facts { display: flex; flex-wrap: wrap; gap: 6px 30px; margin: 14px 0 22px; }
.facts dt { font-size: 12px; color: var(--muted); }
.facts dd { margin: 0; font-weight: 500; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 14px; }
.tile { flex: 1 1 170px; padding: 14px 16px; border: 1px solid var(--line); border-radius: 10px; background:
var(--card); } .tile.main { flex: 2 1 320px; }
.tile .name { font-size: 13px; color: var(--muted); }
.tile .value { font-size: 28px; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile.main .value { color: var(--accent); }
.tile .note, td.note { font-size: 13px; color: var(--muted); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table.numbers { width: 100%; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
} th { font-weight: 500; }
thead th { font-size: 12px; color: var(--muted); white-space: nowrap; }
.numbers th[scope=row], .number { white-space: nowrap; }
th.number, td.number { padding-right: 28px; text-align: right; }
td.number { font-weight: 600; }
small { display: block; font-size: 12px; font-weight: 400; color: var(--muted); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 18px; }
figure { margin: 0; padding: 16px 18px; border: 1px solid var(--line); border-radius: 10px; background:
var(--card);
  break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; }
@media not (prefers-color-scheme: dark) { figure img { mix-blend-mode: multiply; } }
figcaption { margin-top: 8px; font-size: 13px; color: var(--muted); }
.gallery { display: grid; gap: 14px; min-width: 860px; }
.row { display: grid; grid-template-columns: 96px 1fr; gap: 22px; break-inside: avoid; }
.results { display: grid; grid-template-columns: repeat(10, 1fr); gap: 9px; }
.query img, .item img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px;
  background: #000; }
.pixels { image-rendering: pixelated; }
.query img { outline: 1px solid var(--line); outline-offset: 2px; }
.item img { border: 3px solid currentColor; }
.right, .item.right { color: var(--right); }
.wrong, .item.wrong { color: var(--wrong); }
.below { margin-top: 5px; font-size: 13px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.item .below { text-align: center; }
.ap { display: block; font-size: 12px; color: var(--muted); white-space: nowrap; }
table.names td, table.names th { min-width: 84px; max-width: 220px; font-size: 13px; }
table.names td div { color: var(--ink); }
details { margin-bottom: 10px; padding: 10px 16px; border: 1px solid var(--line); border-radius: 10px; }
summary { cursor: pointer; font-weight: 500; }
details table { margin: 10px 0 4px; }
details td { overflow-wrap: anywhere; }
footer { margin-top: 56px; font-size: 13px; color: var(--muted); }
@media print { body { max-width: none; padding: 0; } }
"""


def page(title: str, body: str) -> str:
    """A whole HTML document around ``body`` (markup, already escaped); ``title`` is escaped here."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n"
        "<footer>Written by dshc. Every number stands beside the convention it was computed under.</footer>\n"
        "</body>\n</html>\n"
    )
