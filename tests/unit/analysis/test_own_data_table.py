import pytest

from analysis.fronts.own_data import OwnDataError, fronts_of, read_own_data
from analysis.objectives import Objective

LATENCY, THROUGHPUT = Objective("latency_s", False), Objective("throughput_img_s", True)
BOTH = [LATENCY, THROUGHPUT]


@pytest.fixture
def write(tmp_path):
    def write(text, name="points.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_text(text, encoding=encoding)
        return path

    return write


PAPER_STYLE = """\
model,split,latency_s,throughput_img_s,stage1_mem_pct
MobileNetV2,P3,1.958,8.256,18.510
MobileNetV2,P17,1.932,4.400,16.84
VGG16,P14,13.202,1.172,35.43
VGG16,P29,14.308,0.598,33.95
"""


def test_front_over_all_rows_and_per_group(write):
    data = read_own_data(write(PAPER_STYLE), BOTH)
    assert fronts_of(data, BOTH, None).on_frontier == [True, True, False, False]
    assert fronts_of(data, BOTH, "model").on_frontier == [True, True, True, False]


def test_every_row_has_its_marks_and_every_front_its_hypervolume(write):
    data = read_own_data(write("latency_s,throughput_img_s,net\n1,10,x\n2,40,x\n5,45,x\n9,9,x\n1,3,y\n"), BOTH)
    fronts = fronts_of(data, BOTH, "net", reference=(6.0, 5.0))
    assert [rank for _, rank, _, _ in fronts.marks] == [1, 1, 1, 2, 1]
    assert [knee for *_, knee in fronts.marks] == [False, True, False, False, False]
    assert fronts.hypervolumes == {"x": 1 * 5 + 3 * 35 + 1 * 40, "y": 0.0}
    assert fronts.reference_words == "latency_s 6, throughput_img_s 5 (given)"
    assert fronts_of(data, BOTH, None).reference_words == "latency_s 9.9 (1.1 x the worst), throughput_img_s 0"


def test_cells_are_kept_as_they_stand(write):
    data = read_own_data(write(PAPER_STYLE), BOTH)
    assert data.columns == ["model", "split", "latency_s", "throughput_img_s", "stage1_mem_pct"]
    assert data.rows[0]["stage1_mem_pct"] == "18.510"
    assert data.values[0] == (1.958, 8.256)


def test_three_objectives(write):
    data = read_own_data(write(PAPER_STYLE), [*BOTH, Objective("stage1_mem_pct", False)])
    assert fronts_of(data, [*BOTH, Objective("stage1_mem_pct", False)], None).on_frontier == [True, True, False, False]


@pytest.mark.parametrize("missing", ["", " ", "nan", "NA", "inf", "-inf", "null"])
def test_rows_without_a_finite_objective_are_dropped_and_counted(write, missing):
    data = read_own_data(write(f"latency_s,throughput_img_s,x\n1,2,a\n{missing},3,b\n"), BOTH)
    assert [row["x"] for row in data.rows] == ["a"]
    assert data.dropped == 1


def test_a_byte_order_mark_and_spaces_around_names_are_no_part_of_a_name(write):
    data = read_own_data(write("latency_s, throughput_img_s\n1,2\n", encoding="utf-8-sig"), BOTH)
    assert data.columns == ["latency_s", "throughput_img_s"]


def test_our_own_output_can_be_read_again(write):
    data = read_own_data(write("latency_s,throughput_img_s,on_frontier\n1,2,True\n"), BOTH)
    assert "on_frontier" not in data.columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency,throughput_img_s\n1,2\n", r"no column 'latency_s'; did you mean 'latency'\?"),
        ("Latency_S,throughput_img_s\n1,2\n", r"did you mean 'Latency_S'\?"),
        ("foo,throughput_img_s\n1,2\n", "no column 'latency_s'; the columns are foo, throughput_img_s"),
        ("latency_s,throughput_img_s\n1,2\n3,fast\n", "line 3, column 'throughput_img_s': 'fast' is not a number"),
        ("latency_s,throughput_img_s\n1,2,3\n", "line 2 has 3 fields, the header 2"),
        ("latency_s,latency_s,throughput_img_s\n1,2,3\n", "column 'latency_s' occurs more than once"),
        ("", "empty; the first line must name the columns"),
        ('latency_s,throughput_img_s\n"1,2\n', "line 2: unexpected end of data"),
    ],
)
def test_bad_files_are_named_with_the_place(write, text, message):
    with pytest.raises(OwnDataError, match=r"points\.csv: .*" + message):
        read_own_data(write(text), BOTH)


def test_a_line_number_counts_quoted_line_breaks(write):
    with pytest.raises(OwnDataError, match="line 4, column 'latency_s'"):
        read_own_data(write('latency_s,throughput_img_s,x\n1,2,"a\nb"\nslow,2,c\n'), BOTH)


def test_columns_named_for_labels_must_exist(write):
    with pytest.raises(OwnDataError, match="no column 'modle'; did you mean 'model'"):
        read_own_data(write(PAPER_STYLE), BOTH, ["modle"])


def test_files_that_are_no_text_or_not_there(write, tmp_path):
    path = tmp_path / "points.csv"
    with pytest.raises(OwnDataError, match="No such file"):
        read_own_data(path, BOTH)
    path.write_bytes(b"latency_s\xff,throughput_img_s\n")
    with pytest.raises(OwnDataError, match="not UTF-8 text"):
        read_own_data(path, BOTH)
