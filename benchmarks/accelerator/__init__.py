"""What is measured on the day that there is an accelerator: `python -m benchmarks.accelerator --minutes=10`.

items.py   the items, in order of priority, with their parts
budget.py  runs them within the minutes, each in a process of its own
worker.py  that process: runs parts, and writes each one's figures at once
context.py sizes, full or tiny, and what a part is given
results.py results.json; report.py: results.md and the table of docs/accelerator.md

One file for each item: `measure(part, context)` returns the figures of a part.
"""
