"""Label the images of a small world into a store, as a call and as a command."""

from mmcast.apis import label_images
from mmcast.cli import main
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher


def create(world, root, **arguments):
    return PseudoLabelStore.create(
        root,
        classes=world.classes,
        teacher=Teacher.from_files(world.config, world.checkpoint),
        **arguments,
    )


def label(world, teacher, store, names=None, **arguments):
    options = dict(num_workers=0, progress=False) | arguments
    names = world.names if names is None else names
    return label_images(teacher, names, world.img_root, store, **options)


def files(store):
    return {
        path.relative_to(store.root): path.read_bytes()
        for path in store.root.rglob('*.json')
        if path.name != 'manifest.json'
    }


def command(*arguments):
    main([*map(str, arguments)])
