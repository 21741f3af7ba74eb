"""The HTML report on trainings: `mmcast.apis.report` writes it.

`data` finds what stages left, `coco` compares instances with annotations, `charts` and
`pictures` draw, `labels` and `models` make the parts of the page, `page` joins them.
"""
