"""Read a user's COCO file, then its images, and print what they hold as a table."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from mmcast.datasets.coco_file import CocoFile, read_coco

from .inspection import Inspection, inspect


def read(file: Path, folder: Path, console: Console) -> CocoFile:
    """Read a COCO file, but none of its images.

    Args:
        file: The COCO file.
        folder: The image folder.
        console: Where to print.

    Raises:
        FileNotFoundError: The file or the folder does not exist.
        ValueError: The file is no COCO file.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder '{folder}' is no folder: correct it")
    with console.status(Text(f'reading {file}')):
        return read_coco(file, folder)


def look(
    coco: CocoFile,
    folder: Path,
    console: Console,
    link_root: Path | None = None,
    whole: bool = True,
) -> Inspection:
    """Read the images of a COCO file; print the table.

    Args:
        coco: The annotations, as `read` returns them.
        folder: The image folder.
        console: Where to print.
        link_root: Links in the folder may lead to places below it, too.
        whole: Whether images that the file lacks count, too.

    Raises:
        ValueError: Something has to be repaired first.
    """
    file = coco.path
    columns = (
        TextColumn('{task.description}', markup=False),
        *Progress.get_default_columns()[1:],
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f'reading {folder}', total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if done == total:
                bar.update(task, description='comparing images')

        found = inspect(coco, folder, link_root, tell, whole)
    table = Table(title=str(file), title_justify='left', show_lines=True)
    for column in ('', 'found', 'what happens, or what to do'):
        table.add_column(column, overflow='fold')
    for each in found.findings:
        if each.count != '0':
            style = 'bold red' if each.stops else 'yellow' if each.remedy else ''
            table.add_row(each.what, each.count, each.remedy, style=style)
    none = [each.what for each in found.findings if each.count == '0']
    table.add_row('looked for', 'and not found', ', '.join(none))
    console.print(table)
    stops = [each.what for each in found.findings if each.stops]
    if stops:
        raise ValueError(
            f'{file}: correct what the table says about {"; ".join(stops)}. Nothing '
            'was written'
        )
    if not found.annotated:
        raise ValueError(
            f'{file}: all images with an object are left out, as the table says'
            if coco.shown_classes
            else f'{file}: no image has an object with a mask: label some'
        )
    return found
