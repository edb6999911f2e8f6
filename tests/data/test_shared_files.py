"""Every real file of ../shared/data loads as its README says, or is refused with what is wrong and what to type.

The outcomes were written by hand from that README; the files are read in place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tsbench.data.panel import Panel
from tsbench.data.readers import read_panel
from tsbench.data.scaling import seen
from tsbench.errors import TsbenchError

LOADS: dict[str, tuple[int, int, int, str, int]] = {
    # file: items, rows, channels, freq, seasonality
    "ltsf/ETTh1.csv": (1, 17420, 7, "h", 24),
    "ltsf/ETTh2.csv": (1, 17420, 7, "h", 24),
    "ltsf/ETTm1.csv.gz": (1, 69680, 7, "15min", 96),
    "ltsf/ETTm2.csv.gz": (1, 69680, 7, "15min", 96),
    "ltsf/exchange_rate.csv": (1, 7588, 8, "D", 7),
    "ltsf/national_illness.csv": (1, 966, 7, "W-TUE", 52),
    "monash/covid_deaths_dataset.tsf": (266, 266 * 212, 1, "D", 7),
    "monash/electricity_weekly_dataset.tsf": (321, 321 * 156, 1, "W-SUN", 52),
    "monash/fred_md_dataset.tsf": (107, 107 * 728, 1, "MS", 12),
    "monash/hospital_dataset.tsf": (767, 767 * 84, 1, "MS", 12),
    "monash/m1_monthly_dataset.tsf": (617, 55998, 1, "MS", 12),
    "monash/m3_monthly_dataset.tsf": (1428, 167562, 1, "MS", 12),
    "monash/m4_hourly_dataset.tsf": (414, 373372, 1, "h", 24),
    "monash/tourism_monthly_dataset.tsf": (366, 109280, 1, "MS", 12),
    "monash/traffic_weekly_dataset.tsf": (862, 862 * 104, 1, "W-THU", 52),
    "monash/tourism_quarterly_dataset.tsf": (427, 42544, 1, "QS-JAN", 4),
    "monash/kaggle_web_traffic_dataset_1000_without_missing_values.tsf.gz": (1000, 1000 * 803, 1, "D", 7),
    "multivariate/price_ercot_dam.csv.gz": (1, 25537, 1, "h", 24),  # ds and y: the temperature is left out
    "univariate/spain_price_hourly.csv.gz": (1, 35064, 1, "h", 24),
    "univariate/elecdemand_half_hourly.csv.gz": (1, 17520, 1, "30min", 48),
    "univariate/load_rte_hourly.csv.gz": (1, 17520, 1, "h", 24),
    "univariate/saugeen_river_daily.csv.gz": (1, 23741, 1, "D", 7),
    "univariate/sunspots_daily.csv.gz": (1, 73924, 1, "D", 7),
    "univariate/births_us_daily.csv.gz": (1, 7305, 1, "D", 7),
    "univariate/AirPassengers.csv": (1, 144, 1, "MS", 12),
    "univariate/taxi_new_york_passengers.csv": (1, 10320, 1, "30min", 48),
    "univariate/monthly_sunspots.csv": (1, 2820, 1, "MS", 12),
    "univariate/us_gasoline.csv": (1, 1578, 1, "W-FRI", 52),
    "univariate/monthly_milk.csv": (1, 168, 1, "MS", 12),
    "univariate/ice_cream_heater.csv": (1, 198, 2, "MS", 12),
    "univariate/ausbeer.csv": (1, 211, 1, "QS-JAN", 4),
    "univariate/wineind.csv": (1, 176, 1, "MS", 12),
    "univariate/woolyrnq.csv": (1, 119, 1, "QS-JAN", 4),
    "long/electricity_short.csv.gz": (4, 6720, 1, "h", 24),
    "long/electricity_short_with_ex_vars.csv.gz": (4, 6720, 1, "h", 24),
    "long/electricity_short_future_ex_vars.csv": (4, 96, 9, "h", 24),
    "long/m5_sales_exog_small.csv.gz": (8, 15752, 1, "D", 7),
    "long/pjm_in_zone.csv.gz": (5, 43920, 1, "h", 24),
    "long/ercot_multiple_ts.csv.gz": (8, 8000, 1, "h", 24),
    "long/tourism.csv.gz": (304, 24320, 1, "QS-JAN", 4),
    "long/air_passengers.csv": (1, 144, 1, "MS", 12),
    "long/stallion.parquet": (350, 21000, 23, "MS", 12),
    "embedded/auckland_pedestrians_hourly.csv.gz": (1, 17544, 8, "h", 24),
    "embedded/auckland_pedestrians_tiny.csv": (1, 672, 3, "h", 24),
    "embedded/m1_yearly_dataset.tsf": (181, 4515, 1, "YS-JAN", 1),
}

Told = dict[str, Any]
NEEDS_A_WORD: dict[str, tuple[list[str], Told, tuple[int, int, int, str] | None]] = {
    # file: words of the refusal; what to say then; items, rows, channels, freq (None: it is no series at all)
    "ltsf/weather.csv.gz": (
        ["line 19046: timestamp 2020-05-12 06:00:00 repeats the one of line 19045 (1 such", "--set repeated=first"],
        {"freq": "10min", "rows_are_consecutive": True},
        (1, 52696, 21, "10min"),
    ),
    "lstnet/exchange_rate.txt.gz": (["no time column", "--set freq=h"], {"freq": "B"}, (1, 7588, 8, "B")),
    "traffic/los_speed.csv.gz": (
        ["line 1: are 773869, 767541, 767542, ... names", "header"],
        {"header": True, "freq": "5min", "start": "2012-03-01"},
        (1, 2016, 207, "5min"),
    ),
    "traffic/los_adj.csv.gz": (["no time column", "freq=h"], {}, None),
    "traffic/los_sensor_locations.csv": (["no time column: none of 'index', 'sensor_id'", "freq=h"], {}, None),
    "m4/Hourly-train.csv.gz": (
        ["one series a row and no timestamps", "--set freq=h"], {"freq": "h"}, (414, 353500, 1, "h"),
    ),
    "m4/Hourly-test.csv.gz": (["one series a row", "--set freq=h"], {"freq": "h"}, (414, 414 * 48, 1, "h")),
    "m4/Weekly-train.csv.gz": (["one series a row", "--set freq="], {"freq": "W"}, (359, 366912, 1, "W")),
    "m4/Weekly-test.csv.gz": (["one series a row", "--set freq="], {"freq": "W"}, (359, 359 * 13, 1, "W")),
    "monash/nn5_daily_with_missing_converted.tsf.gz": (
        ["line 11, value 21: a missing value", "(1,677 such cells", "--set missing=interpolate"],
        {"missing": "interpolate"},
        (111, 111 * 791, 1, "D"),
    ),
    "multivariate/gefcom2012_load_temp.csv.gz": (
        ["line 10322, column 'zone1': a missing value", "26,880 in columns"],
        {"missing": "interpolate"},
        (1, 39414, 31, "h"),
    ),
    "multivariate/gefcom2014_e_load_temp.csv.gz": (
        ["line 2, column 'load': a missing value", "(17,544 such cells"],
        {"missing": "forward_fill"},
        (1, 96432 - 17544, 2, "h"),  # the load begins in 2006
    ),
    "multivariate/gefcom2014_price_task15.csv.gz": (
        ["line 19180: timestamp 2013-03-10 01:00:00 repeats the one of line 19179", "--set repeated=first"],
        {"repeated": "first", "missing": "interpolate"},
        (1, 25968 - 24, 4, "h"),  # the last 24 prices are to be forecast
    ),
    "multivariate/beijing_pm25_raw.csv.gz": (
        ["column 'cbwd': 'NW' is not a number", "--set targets=No,pm2.5,DEWP"],
        {"targets": ["pm2.5", "DEWP", "TEMP"], "missing": "interpolate"},
        (1, 43824 - 24, 3, "h"),  # the first 24 hours have no pm2.5
    ),
    "univariate/yosemite_temps_5min_missing.csv.gz": (
        ["column 'y': a missing value", "(12 such cells"], {"missing": "interpolate"}, (1, 18721, 1, "5min"),
    ),
    "univariate/wp_log_peyton_manning.csv": (
        ["2008-02-01 00:00:00 comes after 2008-01-30", "(29 such places, 59 missing rows"],
        {"missing": "forward_fill"},
        (1, 2964, 1, "D"),
    ),
    "univariate/ILINet.csv": (
        ["column 'AGE 25-49': a missing value", "1,735 in columns", "4 missing rows"],
        {"targets": ["ILITOTAL", "AGE 65"], "missing": "interpolate"},
        (1, 1305, 2, "W-SUN"),
    ),
    "univariate/taylor.csv": (
        ["no time column: none of 'Y'"], {"freq": "30min", "start": "2000-06-05"}, (1, 4032, 1, "30min"),
    ),
    "univariate/temps.csv": (
        ["1985-01-01 00:00:00 comes after 1984-12-30", "2 missing rows"], {"missing": "interpolate"}, (1, 3652, 1, "D"),
    ),
    "univariate/australian_tourism.csv": (["no time column"], {"freq": "QS"}, (1, 36, 96, "QS")),
    "univariate/monthly_milk_incomplete.csv": (
        ["1963-10-01 00:00:00 comes after 1963-08-01", "13 missing rows"],
        {"missing": "interpolate"}, (1, 168, 1, "MS"),
    ),
    "univariate/gasrate_co2.csv": (["no time column"], {"freq": "9s"}, (1, 296, 2, "9s")),
    "univariate/heart_rate.csv": (["no time column: none of 'Heart rate'"], {"freq": "500ms"}, (1, 1800, 1, "500ms")),
    "long/usdeur.csv": (
        ["2012-12-27 00:00:00 comes after 2012-12-24", "28 missing rows"],
        {"missing": "forward_fill"}, (1, 2870, 1, "B"),
    ),
    "embedded/nyc_weather_hourly.csv.gz": (
        ["column 'dewp_ewr': a missing value", "3,186 in columns"], {"missing": "interpolate"}, (1, 8730, 18, "h"),
    ),
    "embedded/metro_traffic_hourly.csv.gz": (
        ["column 'weather_main': 'Clouds' is not a number", "--set targets=clouds_all,rain_1h"],
        {"targets": "traffic_volume", "missing": "interpolate"},
        (1, 17520, 1, "h"),
    ),
}  # fmt: skip

STATED = {
    "long/pjm_in_zone.csv.gz": "time zone: timestamps were converted to UTC",
    "long/tourism.csv.gz": "timestamps: quarters, taken at their first day",
    "long/stallion.parquet": "item columns: 'agency', 'sku' (inferred: they tell equal stamps apart)",
    "long/m5_sales_exog_small.csv.gz": "target: 'y', as the names ds and y mean it; left out: 'sell_price'",
    "univariate/us_gasoline.csv": "order: rows were sorted by time (they came newest first)",
    "monash/m3_monthly_dataset.tsf": "the file names a horizon of 18 rows",
}
"""A note that must not be missing."""


def read(path: Path, **told: Any) -> Panel:
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet is the extra 'parquet'")
    return read_panel(path, **told)


def test_every_file_of_the_folder_has_an_expected_outcome(shared_data: Path) -> None:
    files = {str(path.relative_to(shared_data)) for path in shared_data.rglob("*") if path.is_file()}

    assert files - {"README.md", "SHA256SUMS"} == LOADS.keys() | NEEDS_A_WORD.keys()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", LOADS)
def test_a_good_file_needs_no_words(shared_data: Path, name: str) -> None:
    panel = read(shared_data / name)

    rows, channels = panel.values.shape
    assert (len(panel.items), rows, channels, panel.freq, panel.seasonality) == LOADS[name]
    assert any(note.startswith(STATED.get(name, "")) for note in panel.notes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NEEDS_A_WORD)
def test_another_file_says_which_word_it_needs_and_loads_with_it(shared_data: Path, name: str) -> None:
    words, told, expected = NEEDS_A_WORD[name]

    with pytest.raises(TsbenchError) as refusal:
        read(shared_data / name)

    for word in words:
        assert word in str(refusal.value)
    if expected:
        panel = read(shared_data / name, **told)
        rows, channels = panel.values.shape
        assert (len(panel.items), rows, channels, panel.freq) == expected


MASKED: dict[str, tuple[dict[str, Any], int, int]] = {
    # file: words, rows, missing values
    "monash/nn5_daily_with_missing_converted.tsf.gz": ({}, 111 * 791, 1677),
    "multivariate/gefcom2012_load_temp.csv.gz": ({}, 39414, 26880),
    "multivariate/gefcom2014_e_load_temp.csv.gz": ({"targets": ["load", "T"]}, 96432, 17544),
    "univariate/wp_log_peyton_manning.csv": ({}, 2964, 59),
    "univariate/ILINet.csv": ({"targets": ["ILITOTAL", "AGE 65"]}, 1305, 8),
    "univariate/monthly_milk_incomplete.csv": ({}, 168, 13),
    "embedded/nyc_weather_hourly.csv.gz": ({}, 8730, 3186),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_holes_are_as_many_as_the_file_has(shared_data: Path, name: str) -> None:
    told, rows, missing = MASKED[name]

    panel = read(shared_data / name, missing="mask", **told)

    assert panel.values.shape[0] == rows
    assert np.isnan(panel.values).sum() == missing
    assert np.isfinite(seen(panel)).all()
