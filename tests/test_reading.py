"""A file of measurements is read as it was written, or refused by column and row."""

import csv

import numpy as np
import pytest
import torch
import xarray as xr
from toy import toy_response

import pnnlab as pnn
from pnnlab import characterize, twins
from pnnlab.characterize import Scaling, read_measurements
from pnnlab.errors import DataError, ShapeError, TwinError
from pnnlab.views import figures

X, THETA, Y = ["V1 (V)", "V2 (V)"], ["I [mA]"], ["out (mV)"]
GIVEN = {"x": X, "theta": THETA, "y": Y}
ROWS = 40


def columns(rows=ROWS, repeats=1):
    """Columns of a bench, in physical units, each drive several times."""
    numbers = np.random.default_rng(0)
    drives = np.repeat(numbers.uniform([-2, 0, 5], [2, 4, 9], (rows, 3)), repeats, axis=0)
    out = 10 * drives.sum(1) + 0.1 * numbers.standard_normal(len(drives))
    counts = np.tile(np.arange(repeats), rows)
    values = [*drives.T, out, counts]
    return dict(zip([*X, *THETA, *Y, "n"], values, strict=True))


def written(path, table, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_scaled_and_keeps_its_units(tmp_path, delimiter):
    table = columns()
    data = read_measurements(written(tmp_path / "a.csv", table, delimiter), **GIVEN, name="amp")
    assert dict(data.sizes) == {"shot": 40, "input": 2, "parameter": 1, "repeat": 1, "output": 1}
    for role, dim, names in (("x", "input", X), ("theta", "parameter", THETA), ("y", "output", Y)):
        of_rows = data.sortby("shot")[role].values.reshape(ROWS, -1)
        values, scaling = of_rows, Scaling.of(data, dim)
        assert (values.min(), values.max()) == (0, 1)
        assert scaling.names == tuple(names)
        assert scaling.low == pytest.approx([table[name].min() for name in names])
        physical = np.stack([table[name] for name in names], 1)
        assert scaling.physical(values) == pytest.approx(physical, abs=1e-5)
        assert scaling.scaled(physical) == pytest.approx(values, abs=1e-6)
    assert Scaling.of(data, "parameter").units == ("mA",)
    assert (data.attrs["system"], data.attrs["source"]) == ("amp", "a.csv")
    again = characterize.load(characterize.save(data, tmp_path / "scaled.nc"))
    assert again.equals(data)
    assert Scaling.of(again, "output").units == ("mV",)


def test_a_sweep_is_not_split_by_its_levels():
    a, b, c = (one.ravel() for one in np.meshgrid(*[np.linspace(0, 1, 10)] * 3, indexing="ij"))
    table = {"a (V)": a, "b (V)": b, "c (V)": c, "y (V)": a * b + c}
    data = read_measurements(table, x=["a (V)", "b (V)", "c (V)"], y=["y (V)"])
    for split in ("train", "validation", "test"):
        assert all(len(column.unique()) == 10 for column in characterize.shots(data, split).x.T)
    first = characterize.shots(data, "train").first(50)
    assert first.x.amin() == 0
    assert first.x.amax() == 1
    of_rows = data.sortby("shot")
    assert of_rows["shot"].values.tolist() == list(range(1000))
    assert of_rows["x"].values == pytest.approx(np.stack([a, b, c], 1), abs=1e-6)


def test_repeats_are_ordered_and_give_the_floor():
    table = columns(repeats=3)
    order = np.random.default_rng(1).permutation(len(table["n"]))
    shuffled = {name: values[order] for name, values in table.items()}
    data = read_measurements(shuffled, **GIVEN, repeats="n")
    assert data["y"].shape == (3, ROWS, 1)
    physical = Scaling.of(data, "output").physical(data["y"].values)
    drive = Scaling.of(data, "input").physical(data["x"].values)
    for shot in (0, 17):
        row = np.isclose(table[X[0]], drive[shot, 0], atol=1e-5).nonzero()[0]
        assert physical[:, shot, 0] == pytest.approx(table[Y[0]][row], abs=1e-4)
    signal = table[Y[0]].reshape(ROWS, 3)
    expected = signal.var(1, ddof=1).mean() / signal.var(0).mean()
    assert characterize.nmse_floor(torch.from_numpy(data["y"].values)) == pytest.approx(
        expected, rel=1e-3
    )
    single = read_measurements(columns(), **GIVEN)
    assert np.isnan(characterize.nmse_floor(characterize.shots(single, "train").y))


def arrays():
    generator = np.random.default_rng(2)
    x, theta = generator.random((30, 4)), generator.random((30, 3))
    y = np.stack([x @ np.ones((4, 2)) + theta.sum(1)[:, None] + k * 1e-3 for k in range(2)])
    return {"drive": x, "bias": theta, "answer": y}


OF_ARRAYS = {"x": ["drive"], "theta": ["bias"], "y": ["answer"]}
UNITS = {"drive": "V", "bias": "V", "answer": "A"}


@pytest.mark.parametrize("kind", ["npz", "nc", "zarr"])
def test_files_of_arrays_are_read_alike(tmp_path, kind):
    given, path = arrays(), tmp_path / f"a.{kind}"
    dims = {"drive": ("s", "i"), "bias": ("s", "p"), "answer": ("r", "s", "o")}
    units = {}
    if kind == "npz":
        np.savez(path, **given)
        units = UNITS
    else:
        dataset = xr.Dataset({n: (dims[n], v, {"units": UNITS[n]}) for n, v in given.items()})
        if kind == "nc":
            dataset.to_netcdf(path, engine="h5netcdf")
        else:
            pytest.importorskip("zarr")
            dataset.to_zarr(path, zarr_format=2, consolidated=False)
    data = read_measurements(path, **OF_ARRAYS, units=units)
    assert data.equals(read_measurements(given, **OF_ARRAYS, units=UNITS))
    assert data["y"].shape == (2, 30, 2)
    assert Scaling.of(data, "input").names == ("drive[0]", "drive[1]", "drive[2]", "drive[3]")
    assert Scaling.of(data, "output").units == ("A", "A")


def test_zarr_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.zarr").mkdir()
    monkeypatch.setattr("pnnlab.characterize.reading.find_spec", lambda _: None)
    with pytest.raises(DataError, match="pip install zarr"):
        read_measurements(tmp_path / "a.zarr", **GIVEN)


def test_ranges_that_are_given_are_used():
    ranges = {"V1 (V)": (-4.0, 4.0)}
    data = read_measurements(columns(), **GIVEN, ranges=ranges)
    assert Scaling.of(data, "input").low[0] == -4
    assert 0.2 < data["x"].values[:, 0].min() < 0.3
    with pytest.raises(DataError, match=r"'V2 \(V\)' goes from .* give ranges that hold all"):
        read_measurements(columns(), **GIVEN, ranges={"V2 (V)": (0.0, 3.0)})


def test_read_outs_of_one_unit_share_a_range():
    table = columns()
    table["low (mV)"], table["I (A)"] = 0.1 * table["out (mV)"] - 7, table["V1 (V)"] ** 2
    data = read_measurements(table, **GIVEN | {"y": ["out (mV)", "low (mV)", "I (A)"]})
    scaling = Scaling.of(data, "output")
    assert scaling.low[0] == scaling.low[1] == table["low (mV)"].min()
    assert scaling.high[0] == scaling.high[1] == table["out (mV)"].max()
    assert scaling.high[2] == table["I (A)"].max()


def spoiled(name, row, value, **kind):
    table = {key: list(values) for key, values in columns(**kind).items()}
    table[name][row] = value
    return table


def masked(name, row):
    """Columns of which one has a reading that its instrument marked as bad."""
    table = columns()
    table[name] = np.ma.masked_array(table[name], mask=np.arange(ROWS) == row)
    return table


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (spoiled("V1 (V)", 6, float("nan")), {}, r"column 'V1 \(V\)', row 7: nan is no read-out"),
        (spoiled("out (mV)", 2, 9.9e37), {}, r"column 'out \(mV\)', row 3: 9.9e\+37 is no"),
        (spoiled("I [mA]", 4, "1,5"), {}, r"column 'I \[mA\]', row 5: 1,5 is no read-out"),
        (spoiled("I [mA]", 4, ""), {}, "row 5:  is no read-out"),
        (columns() | {"V1 (V)": np.ones(ROWS)}, {}, r"'V1 \(V\)' is 1 V in all rows"),
        (columns() | {"out (mV)": np.ones(ROWS)}, {}, r"'out \(mV\)' is 1 mV in all rows"),
        (columns() | {"V1 (V)": np.ones(9)}, {}, r"'V2 \(V\)' has \(40,\) rows and"),
        (columns() | {"out (mV)": np.ones((2, 2, 2, 2))}, {}, r"has shape \(2, 2, 2, 2\)"),
        (columns(rows=12), {}, "12 different shots of 3 inputs .* at least 20"),
        (columns(rows=0), {}, "0 different shots"),
        (columns(repeats=2), {}, "row 2 drives the device as row 1 does"),
        (spoiled("n", 3, 0, repeats=2), {"repeats": "n"}, "row 3 has 2 read-outs with 'n' 0"),
        (columns(), {"theta": ["I2"]}, "no column 'I2'; there are 'V1"),
        (columns(), {"theta": ["V1 (V)"]}, "'V1 .V.' is named twice"),
        (columns(), {"theta": ["n"]}, "unit of column 'n' is not known"),
        (columns() | {"y[0]": np.arange(ROWS)}, {"y": ["y[0]"]}, r"unit of column 'y\[0\]' is not"),
        (columns() | {"out (mV)": np.ones(ROWS) * 1j}, {}, r"column 'out \(mV\)' is complex"),
        (masked("V2 (V)", 6), {}, r"column 'V2 \(V\)', row 7: -- is no read-out"),
        (columns(), {"units": {"V1": "V"}}, "no column 'V1'"),
        (columns(), {"x": []}, "at least one column of x"),
    ],
)
def test_what_is_wrong_is_refused_by_column_and_row(table, options, message):
    with pytest.raises(DataError, match=message):
        read_measurements(table, **(GIVEN | options))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"V1 (V),V2 (V)\n1,2\n1\n", "row 2 has 1 fields and the header names 2"),
        ("a.csv", b"V1 (V),V1 (V)\n1,2\n", "names a column twice"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read"),
        ("a.npz", b"nothing", "cannot be read"),
        ("a.npz", b"PK\x03\x04, and then the copy was interrupted", "cannot be read"),
        ("a.nc", b"nothing", "cannot be read"),
        ("a.mat", b"", "of no known kind"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_measurements(tmp_path / name, **GIVEN)
    with pytest.raises(DataError, match="there is no"):
        read_measurements(tmp_path / "other.csv", **GIVEN)


def test_a_device_without_parameters_is_read(tmp_path):
    data = read_measurements(columns(), x=[*X, *THETA], y=Y)
    assert data["theta"].shape == (ROWS, 0)
    assert characterize.load(characterize.save(data, tmp_path / "a.nc")).equals(data)


def toy_measurements(shots=300):
    generator = np.random.default_rng(3)
    x, theta = generator.random((shots, 6)), generator.random((shots, 36))
    y = toy_response(torch.from_numpy(x), torch.from_numpy(theta), 1.1).numpy()
    read = np.stack([y + 0.05 * generator.standard_normal(y.shape) for _ in range(2)])
    given = {"x": 5 * x, "theta": theta, "y": 1e3 * read}
    units = {"x": "V", "theta": "1", "y": "mV"}
    return read_measurements(
        given, x=["x"], theta=["theta"], y=["y"], units=units, name="toy bench"
    )


def test_a_twin_is_fitted_and_reported_without_the_device():
    data = toy_measurements()
    with pytest.warns(RuntimeWarning, match="no effect of the inputs: .* more shots"):
        twin = pnn.fit_twin(dataset=data, architecture=twins.Mlp(), progress=False)
    assert str(twin.signature) == "toy bench (6 + 36 → 6)"
    report = twins.report(None, twin, data)
    assert report.verdict in ("usable", "at the noise floor")
    assert (report.gradient, report.gap, report.device_passes) == (None, None, 0)
    assert "not known without the device" in str(report)
    with pytest.raises(ShapeError, match="without a device"):
        figures.gradients(report)
    with pytest.raises(TwinError, match="a system to measure"):
        pnn.fit_twin()


@pytest.mark.filterwarnings("ignore:the twin of toy bench shows no effect of the inputs")
def test_a_stand_in_answers_as_the_twin_with_its_noise():
    data = toy_measurements()
    twin = pnn.fit_twin(dataset=data, progress=False)
    system = twins.stand_in(twin, seed=1)
    x, theta = torch.rand(400, 6), torch.rand(36)
    y = torch.stack([system(x, theta) for _ in range(8)])
    assert y.mean(0).sub(twin(x, theta)).abs().mean() < 0.6 * y.std(0).mean()
    scale = Scaling.of(data, "output")
    noise = 0.05 * 1e3 / (scale.high - scale.low)
    assert y.std(0).mean(0).numpy() == pytest.approx(noise, rel=0.3)
    assert torch.equal(twins.stand_in(twin, seed=1)(x, theta), y[0])
    assert system.name == "twin of toy bench"
