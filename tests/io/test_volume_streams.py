"""Files that are read piece by piece: volumes out of gzip, objects out of JSON."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from neurorecon.datasets.nsd import stimuli as coco
from neurorecon.datasets.nsd.stimuli import read_captions, read_objects, rows
from neurorecon.errors import InputError
from neurorecon.io import volumes as stream
from neurorecon.io.volumes import volumes

CONTENT = np.random.default_rng(0).integers(0, 5, 40 + 9 * 100, dtype=np.uint8).tobytes()


def _volumes(path, number=9, whole=True):
    return [bytes(volume) for volume in volumes(path, 40, 100, number, whole)]


@pytest.mark.parametrize("unpacked", [1, 33, 2**22])
@pytest.mark.parametrize("piece", [3, 64, 2**20])
def test_volumes_whatever_the_size_of_the_pieces(tmp_path, monkeypatch, piece, unpacked):
    monkeypatch.setattr(stream, "PIECE", piece)
    monkeypatch.setattr(stream, "UNPACKED", unpacked)
    expected = [CONTENT[start : start + 100] for start in range(40, 940, 100)]
    several = gzip.compress(CONTENT[:333]) + gzip.compress(CONTENT[333:]) + bytes(512)
    for name, content in (("plain", CONTENT), ("packed", gzip.compress(CONTENT)), ("several", several)):
        (tmp_path / name).write_bytes(content)
        assert _volumes(tmp_path / name) == expected
        assert _volumes(tmp_path / name, 4, whole=False) == expected[:4]


def test_damage_is_found_at_the_end_too(tmp_path):
    path = tmp_path / "betas.nii.gz"
    packed = gzip.compress(CONTENT)
    for content in (packed[:-9], packed[:-3], packed[:-8] + bytes(4) + packed[-4:], packed + b"rubbish"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"betas\.nii\.gz cannot be read"):
            _volumes(path)
    path.write_bytes(packed)
    with pytest.raises(InputError, match="9 of 10 volumes"):
        _volumes(path, 10)


def _captions(path, texts, image=7):
    found = [{"image_id": image, "id": 100 - number, "caption": text} for number, text in enumerate(texts)]
    head = {"info": {"annotations": {}}, "images": [{"id": image}]}
    path.write_text(json.dumps({**head, "annotations": found}, ensure_ascii=False), encoding="utf-8")
    return [path]


@pytest.mark.parametrize("piece", [50, 2**20])
def test_captions_are_data(tmp_path, monkeypatch, piece):
    """Nothing in a caption is taken for markup or for JSON; of more than five the first by their ids are kept."""
    monkeypatch.setattr(coco, "PIECE", piece)
    texts = [
        "<script>alert(1)</script>",
        ' a "quoted" dog\n',
        'x "annotations": [1]',
        "naïve café 🐶",
        "{}",
        "6th",
        "7th",
    ]
    paths = _captions(tmp_path / "captions_train2017.json", texts)
    assert read_captions(paths, {7}) == {7: texts[:1:-1]}
    assert read_captions(paths, {8}) == {}


def test_objects_are_counted_as_far_as_the_crop_shows_them(tmp_path):
    path = tmp_path / "instances_val2017.json"
    boxes = [(0, 0, 160, 480), (160, 0, 240, 480), (600, 0, 40, 10)]  # of 640 x 480
    content = {
        "images": [{"id": 3, "width": 640, "height": 480}],
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 3, "category_id": number % 2 + 1, "bbox": box} for number, box in enumerate(boxes)
        ],
    }
    path.write_text(json.dumps(content))
    crop = pd.DataFrame({"cropBox": [(0.0, 0.0, 0.125, 0.125)]}, index=[3])  # 80 pixels on either side
    objects, groups = read_objects([path], crop)
    assert objects["category"].tolist() == ["person", "dog"]  # the third is outside
    np.testing.assert_allclose(objects["area"], [80 / 480, 240 / 480])
    assert groups == {"person": "person", "dog": "dog"}
    assert coco.main_category(objects) == {3: "dog"}


def test_broken_json_is_named(tmp_path):
    path = tmp_path / "captions_val2017.json"
    for text in ("", "[]", '{"annotations": [{"id": 1', '{"annotations": [{"id": 1}]}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"captions_val2017\.json cannot be read"):
            read_captions([path], {1})
    path.write_text('{"other": [1], "annotations" : [ ]}')
    assert list(rows(path, "annotations")) == []
