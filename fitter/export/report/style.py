"""The report's style sheet: the system's own letters, light or dark as the reader's system is."""

STYLE = """
:root {
  --paper: #fbfaf8; --ink: #24211e; --soft: #6d675f; --line: #e2ded7; --card: #ffffff; --accent: #a4482c;
  --note: #fdf3e4; --edge: #e5c48f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #191817; --ink: #ebe7e1; --soft: #a19a90; --line: #37342f; --card: #221f1d; --accent: #e79a7c;
    --note: #2e2618; --edge: #6b5428;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1320px; margin: 0 auto; padding: 40px 28px 80px; }
h1 { font-size: 30px; font-weight: 620; letter-spacing: -0.01em; margin: 0 0 4px; }
h2 { font-size: 20px; font-weight: 600; margin: 56px 0 6px; }
h3 { font-size: 15px; font-weight: 600; margin: 26px 0 8px; }
p { margin: 0 0 14px; max-width: 78ch; }
.lead, .explain { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: 6px 28px; padding: 14px 0 6px; margin: 0; list-style: none; }
.facts b { display: block; font-size: 12px; font-weight: 500; color: var(--soft); }
.row { display: grid; gap: 10px; }
.three { grid-template-columns: repeat(3, 1fr); }
.five { grid-template-columns: repeat(5, 1fr); }
.maps { grid-template-columns: repeat(3, 1fr); gap: 18px; align-items: start; }
figure { margin: 0; }
figure.wide { grid-column: 1 / -1; max-width: 900px; }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--card); }
figcaption { font-size: 13px; color: var(--soft); padding: 5px 1px 0; line-height: 1.4; }
figcaption b { color: var(--ink); font-weight: 550; }
.notes {
  padding: 14px 18px 14px 34px; margin: 14px 0; background: var(--note); border: 1px solid var(--edge);
  border-radius: 8px;
}
.notes li { margin: 3px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 18px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-size: 12px; font-weight: 500; color: var(--soft); }
td.number, th.number { text-align: right; }
tr.first td { border-top: 2px solid var(--line); }
.scroll { overflow-x: auto; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--accent); }
pre {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; overflow-x: auto;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
.dot {
  display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin: 0 3px 0 10px;
  vertical-align: baseline;
}
.dot.detected { background: #ff8a30; }
.dot.fitted { border: 2px solid #24b4e0; }
.patch {
  display: inline-block; width: 14px; height: 14px; border-radius: 3px; margin: 0 6px 0 0; vertical-align: -2px;
}
.patch.measured { background: #b8b3ad; }
.patch.guessed { background: #c2412d; }
.legend { max-width: 420px; margin-top: 10px; }
@media (max-width: 760px) {
  .five { grid-template-columns: repeat(2, 1fr); }
  .three, .maps { grid-template-columns: 1fr; }
  main { padding: 24px 16px 60px; }
}
@media print { body { background: #fff; color: #000; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""
