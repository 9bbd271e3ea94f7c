"""Reads what a page of HTML says, and checks that its tags are balanced."""

from html.parser import HTMLParser

import pandas as pd


class Reader(HTMLParser):
    """Reads tables, texts by tag, and checks that tags are balanced."""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.tables, self.texts = [], [], [], {}
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in self.VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open:
            return
        if self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        self.texts.setdefault(self.open[-1], []).append(data)

    def table(self, *columns) -> pd.DataFrame:
        """Return the table that begins with these columns."""
        return next(
            pd.DataFrame(rows[1:], columns=rows[0])
            for rows in self.tables
            if tuple(rows[0][: len(columns)]) == columns
        )


def number(text: str) -> float:
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))
