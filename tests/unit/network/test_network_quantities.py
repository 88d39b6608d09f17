import pytest

from paretopipe_runtime.network.quantities import parse_delay_s, parse_loss_pct, parse_rate_bit_s


@pytest.mark.parametrize(("text", "seconds"), [("200ms", 0.2), ("1.5s", 1.5), ("50us", 5e-5), (" 5MS ", 0.005)])
def test_delays(text, seconds):
    assert parse_delay_s(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(("text", "bit_s"), [("5mbit", 5e6), ("1.5Gbit", 1.5e9), ("64kbit", 64e3), ("9bit", 9)])
def test_rates_are_decimal(text, bit_s):
    assert parse_rate_bit_s(text) == bit_s


def test_losses():
    assert parse_loss_pct("0.5%") == 0.5


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_delay_s, "200", "such as 200ms"),
        (parse_delay_s, 200, "such as 200ms"),
        (parse_delay_s, "-1ms", "such as 200ms"),
        (parse_rate_bit_s, "5mbps", "such as 5mbit"),
        (parse_rate_bit_s, "0mbit", "zero"),
        (parse_loss_pct, "1", "such as 1%"),
        (parse_loss_pct, "100%", "lets nothing through"),
    ],
)
def test_what_cannot_be_read_says_how_to_write_it(parse, text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)
