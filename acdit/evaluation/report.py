"""Tables of scores."""

from collections.abc import Mapping, Sequence


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows as a plain text table, with text aligned left and numbers aligned right.

    The columns are the keys of the first row.
    """
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        cells = [name, *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)]
        width = max(map(len, cells))
        text = all(isinstance(value, str) for value in values)
        columns.append([cell.ljust(width) if text else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))
