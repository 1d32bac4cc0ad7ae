"""What a configuration may say of prices."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from headstart.config import PriceConfig, load
from headstart.errors import StartError
from headstart.ledger.price_list import Cost, Like, PriceList, price_of


def priced(path: Path, price: str) -> PriceConfig | None:
    """The price of the one model of a configuration."""
    file = path / "headstart.toml"
    file.write_text(f'[[models]]\nname = "my-llama"\nprice = {{{price}}}\n')
    return load(file, {}).models[0].price


@pytest.mark.parametrize(
    ("price", "config"),
    [
        ("input = 0.4, output = 1.6", PriceConfig(input=Decimal("0.4"), output=Decimal("1.6"))),
        ("input = 0, output = 1000000", PriceConfig(input=Decimal(0), output=Decimal(1_000_000))),
        (
            "input = 0.4, cached = 0.1, written = 0.5, written_12h = 0.8, output = 1.6",
            PriceConfig(
                **dict(
                    zip(
                        ("input", "cached", "written", "written_12h", "output"),
                        map(Decimal, ("0.4", "0.1", "0.5", "0.8", "1.6")),
                        strict=True,
                    )
                )
            ),
        ),
        ("gpu_hour = 2.5", PriceConfig(gpu_hour=Decimal("2.5"))),
        ('like = "gpt-4.1-mini"', PriceConfig(like="gpt-4.1-mini")),
    ],
)
def test_prices(tmp_path: Path, price: str, config: PriceConfig) -> None:
    """Decimals as they were written, whatever a float makes of them."""
    assert priced(tmp_path, price) == config


def test_no_price(tmp_path: Path) -> None:
    """The public one, if there is one."""
    assert load(None, {}).models[0].price is None


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ("", "one of the three"),
        ("gpu_hour = 2.5, input = 1, output = 1", "one of the three"),
        ('gpu_hour = 2.5, like = "gpt-5"', "one of the three"),
        ('cached = 1, like = "gpt-5"', "one of the three"),
        ("input = 1", "both input and output"),
        ("cached = 1, output = 1", "both input and output"),
        ("input = -0.1, output = 1", "not -0.1"),
        ("input = 1, output = nan", "not NaN"),
        ("gpu_hour = inf", "not Infinity"),
        ("input = 1, output = 1, written_12h = 1e7", "from 0 to 1,000,000 dollars"),
        ("gpu_hour = 1000001", "not 1000001"),
        ("inputs = 1", "unknown field 'inputs'"),
    ],
)
def test_no_such_price(tmp_path: Path, price: str, message: str) -> None:
    """Refused at the start, by its place."""
    with pytest.raises(StartError, match=message) as raised:
        priced(tmp_path, price)
    assert "at 'models[0].price" in str(raised.value)


@pytest.mark.parametrize(
    ("price", "cost"),
    [
        (
            "input = 0.4, cached = 0.1, written = 0.5, output = 1.6",
            500_000 * 400_000 + 300_000 * 100_000 + 200_000 * 500_000,
        ),
        ("gpu_hour = 3.6", 2 * 10**9),
        ('like = "gpt-5.6"', 500_000 * 8_000_000 + 300_000 * 800_000 + 200_000 * 10_000_000),
    ],
)
def test_what_it_costs(tmp_path: Path, price: str, cost: int) -> None:
    """A price of the configuration is one of the price list's: the fields have the same names."""
    config = priced(tmp_path, price)
    assert config is not None
    prices = PriceList({"my-llama": price_of(**msgspec.structs.asdict(config))})
    found = prices.cost(
        "my-llama", input=1_000_000, cached=300_000, written_30m=100_000, written_12h=100_000, output=0, seconds=2.0
    )
    assert isinstance(found, Cost)
    assert found.cost == cost


def test_a_model_to_be_like_has_to_have_a_price(tmp_path: Path) -> None:
    """The error names it."""
    config = priced(tmp_path, 'like = "gpt-9-nano"')
    assert config is not None
    assert price_of(**msgspec.structs.asdict(config)) == Like("gpt-9-nano")
    with pytest.raises(StartError, match="'my-llama' is priced like 'gpt-9-nano', which has no published price"):
        PriceList({"my-llama": Like("gpt-9-nano")})
