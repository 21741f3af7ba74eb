"""SAM 3 as a labeller, in processes and an environment of its own.

SAM 3 needs transformers 5, and MMDetection does not run with it. So `mmcast label
--teacher sam3` starts ``__main__.py`` with the Python of another environment, which has
no package of OpenMMLab. The two sides share the folder of the labels, and a
:class:`mmcast.sam3.job.Job` goes from one to the other.
"""

# How a store names this teacher; the phrases of the classes follow.
MADE_BY = 'SAM 3: '
