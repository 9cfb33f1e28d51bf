"""`focal recipe`: check, show and explain recipes."""

from __future__ import annotations

import typer

from focalcli.cli.options import Format, FormatOption, OverridesArgument, RecipeArgument, print_data

app = typer.Typer(help="Check, show and explain recipes.", no_args_is_help=True, rich_markup_mode=None)


@app.command("check")
def recipe_check(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Check keys, types and ranges.

    Exit 2 with the line and the nearest key when something is wrong.
    """
    from focalcli import recipe as recipes

    recipes.load(recipe, overrides or [])
    typer.echo(f"{recipe}: a valid recipe")


@app.command("show")
def recipe_show(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Print the recipe as it would run.

    Every key, with overrides applied and paths absolute.
    """
    from focalcli import recipe as recipes

    typer.echo(recipes.dump(recipes.absolute(recipes.load(recipe, overrides or []))), nl=False)


@app.command("schema")
def recipe_schema(format: FormatOption = Format.table) -> None:
    """List every key: type, default, meaning.

    json is a JSON schema, for editors.
    """
    from focalcli import recipe as recipes

    names = ("key", "takes", "default", "meaning")
    rows = [dict(zip(names, row, strict=True)) for row in recipes.schema_rows()]
    if format is Format.table:
        from focalcli.render.console import make_console, print_rows

        print_rows(rows, make_console())
    else:
        print_data(recipes.schema_json, lambda: rows, format)
