"""The YAML recipe of a training run: load, check, override, dump with comments.

    text --reading--> values and their lines --checking--> Recipe --writing--> text with comments

schema.py says which keys there are; it is the source of the checks, of the comments and of `focal recipe schema`.
This folder is the only one that imports pydantic or yaml, and it never lets an error of theirs out: what a user
got wrong becomes a FocalError that names the file, the key, the line, and what to write instead.
"""

from focalcli.recipe.checking import absolute, from_dict, load, read_overrides
from focalcli.recipe.schema import Recipe, as_dict, schema_json
from focalcli.recipe.writing import dump, schema_rows

__all__ = ["Recipe", "absolute", "as_dict", "dump", "from_dict", "load", "read_overrides", "schema_json", "schema_rows"]
