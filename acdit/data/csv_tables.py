"""Read tables of separated values, as metadata of folders and as texts."""

import csv
import io
from pathlib import Path

from ..utils.errors import UserError


def read_table(text: str, path: Path, delimiter: str = ",") -> list[tuple[int, dict[str, str]]]:
    """Read the rows of a table by the names in its first line, each with the number of its last line.

    Args:
        text: content of the file.
        path: path of the file, for messages.
        delimiter: separator of the values.

    Raises:
        UserError: if quotes are damaged, two columns have one name, or a row has more or fewer values than
            there are columns.
    """
    longest = csv.field_size_limit(2**31 - 1)  # the usual limit is 128 KiB for a text
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, values) for values in reader if values]
    except csv.Error as fault:
        raise UserError(f"{path} is not a table: {fault}; repair its quotes, or remove it") from fault
    finally:
        csv.field_size_limit(longest)
    names = lines[0][1] if lines else []
    if len(set(names)) != len(names):
        raise UserError(f"{path} has several columns of one name in its first line: {', '.join(names)}")
    for line, values in lines:
        if len(values) != len(names):
            raise UserError(
                f"{path} has {len(values)} values in line {line}, but {len(names)} columns: put values that "
                "hold the separator or line breaks in double quotes"
            )
    return [(line, dict(zip(names, values, strict=True))) for line, values in lines[1:]]
