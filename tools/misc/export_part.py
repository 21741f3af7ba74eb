"""Write one network of a training checkpoint as a plain detector checkpoint.

    python tools/misc/export_part.py work_dirs/distill_x/iter_90000.pth student.pth

Training exports the student of the last iteration. Use this script for any other
network or iteration.
"""

import argparse

from mmcast.checkpoints import export_part


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='checkpoint of a SemiSupervisedSegmentor')
    parser.add_argument('out', help='file to write')
    parser.add_argument(
        '--part', default='student', help="student, teacher, or '' for a plain detector"
    )
    parser.add_argument('--half', action='store_true', help='store weights as float16')
    args = parser.parse_args()
    export_part(args.checkpoint, args.out, args.part, args.half)


if __name__ == '__main__':
    main()
