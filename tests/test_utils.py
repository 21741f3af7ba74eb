"""Small helpers."""

import hashlib

from mmcast.utils import digest


def test_digest_changes_with_names_and_contents_of_configs_and_weights(tmp_path):
    (tmp_path / 'sub').mkdir()
    config, weights = tmp_path / 'sub/a.py', tmp_path / 'b.pth'
    config.write_text('x = 1')
    weights.write_bytes(b'12')
    found = digest(tmp_path)
    expected = hashlib.sha256(b'b.pth' + b'12' + b'sub/a.py' + b'x = 1')
    assert found == expected.hexdigest()
    (tmp_path / 'notes.md').write_text('no part of a run')
    assert digest(tmp_path) == found
    seen = {found, digest(weights), digest(tmp_path, weights)}
    weights.write_bytes(b'13')
    seen |= {digest(tmp_path), digest(weights), digest(tmp_path, weights)}
    weights.rename(tmp_path / 'c.pth')
    seen.add(digest(tmp_path))
    assert len(seen) == 7
