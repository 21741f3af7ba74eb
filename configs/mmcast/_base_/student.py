# The student that STUDENT names: models/student_NAME.py, or the model of your own
# config, STUDENT=configs/my_mask_rcnn.py. Optimiser and warm-up come along if the file
# has them. Data, length and decay of the rate belong to the data set.
from mmengine import Config

name = '{{$STUDENT:dpt256}}'
ours = '{{ fileDirname }}/models/student_' + name + '.py'
found = Config.fromfile(name if name.endswith('.py') else ours)
model = found.model
if 'num_classes' not in model:  # a stock config: each head has its own
    model.update(type='WithClasses', detector_type=model.type)
    # Images of a batch have different sizes.
    padding = dict(pad_mask=True, pad_size_divisor=32)
    model.data_preprocessor = {**padding, **model.data_preprocessor}
    del padding
own_optim_wrapper = found.get('optim_wrapper')
warmup = [
    each
    for each in found.get('param_scheduler') or []
    if isinstance(each, dict) and each['type'] == 'LinearLR'
]
on_coco = found.get('on_coco', {})
made_by = found.get('made_by', {})
del Config, name, ours, found
