"""Where requests may go: one reading of a URL, rules that match no more than they say, addresses that are public."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.governance.effects.address import ADDRESSES_MAX, is_allowed, vetted
from aip.governance.effects.failure import NotAllowed
from aip.governance.effects.place import Place, Rule

REFUSED_URLS = [
    "ftp://example.com/", "//example.com/", "example.com", "https://", "https:///x", "https://user@example.com/",
    "https://user:pass@example.com/", "https://example.com/a/../b", "https://example.com/./a", "https://example.com/..",
    "https://example.com//a", "https://example.com/a%2fb", "https://example.com/a%2Eb", "https://example.com/%5c",
    "https://example.com/a%00", "https://example.com/a%0d%0aX: y", "https://example.com/a\r\nX: y", "https://example.com/a b",
    "https://example.com\\@evil.example/", "https://example.com/#x", "https://exämple.com/", "https://example.com/%zz",
    "https://example.com:99999/", "https://example.com:x/", "https://-a.example/", "https://a..example/",
    "https://example.com./", "https://[::1/", "https://" + "a" * 5_000, "https://ex%61mple.com/", "https://a,b.example/",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Place.of(url)


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://Example.COM", "/", "example.com"),
        ("https://example.com:443/a/b?x=1&y=%2F..", "/a/b?x=1&y=%2F..", "example.com"),
        ("http://example.com:8080/a/", "/a/", "example.com:8080"),
        ("http://[::1]:80/", "/", "[::1]"),
        ("https://10.0.0.1/x", "/x", "10.0.0.1"),
        ("https://example.com/caf%C3%A9", "/caf%C3%A9", "example.com"),
    ],
)
def test_a_url_that_is_plain_is_read_as_it_stands(url: str, target: str, authority: str) -> None:
    place = Place.of(url)
    assert (place.target, place.authority) == (target, authority)


def test_what_people_are_shown_has_no_query() -> None:
    assert Place.of("https://example.com/a?token=abc").shown == "https://example.com/a?…"


@pytest.mark.parametrize(
    ("rule", "url", "allowed"),
    [
        ("https://example.com/v1/x", "https://example.com/v1/x", True),
        ("https://example.com/v1/x", "https://example.com/v1/x?q=1", True),
        ("https://example.com/v1/x", "https://example.com/v1/x/", False),
        ("https://example.com/v1/x", "https://example.com/v1/xy", False),
        ("https://example.com/v1/x", "http://example.com/v1/x", False),
        ("https://example.com/v1/x", "https://example.com:444/v1/x", False),
        ("https://example.com/v1/x", "https://example.com.evil.example/v1/x", False),
        ("https://example.com/v1/x", "https://EXAMPLE.com/v1/x", True),
        ("https://example.com/v1/*", "https://example.com/v1/x", True),
        ("https://example.com/v1/*", "https://example.com/v1/x/y", False),
        ("https://example.com/v1/*/items", "https://example.com/v1/7/items", True),
        ("https://example.com/v1/**", "https://example.com/v1/x/y", True),
        ("https://example.com/v1/**", "https://example.com/v1", True),
        ("https://example.com/v1/**", "https://example.com/v10", False),
        ("https://example.com/**", "https://example.com/", True),
        ("https://*.example.com/**", "https://a.example.com/x", True),
        ("https://*.example.com/**", "https://a.b.example.com/x", True),
        ("https://*.example.com/**", "https://example.com/x", False),
        ("https://*.example.com/**", "https://notexample.com/x", False),
        ("https://example.com/a.b", "https://example.com/axb", False),
    ],
)
def test_a_rule_matches_what_it_says_and_no_more(rule: str, url: str, allowed: bool) -> None:
    assert Rule.of(rule).allows(Place.of(url)) is allowed


@pytest.mark.parametrize(
    "rule",
    ["https://*/x", "https://*.com/x", "https://a.*.com/", "https://example.com/**/x", "https://example.com/a**",
     "https://example.com/x?q=1", "*.example.com/x", "https://*.1.2.3.4/", "https://example.com/" + "*/" * 9],
)  # fmt: skip
def test_a_rule_that_would_match_more_than_it_shows_is_refused(rule: str) -> None:
    with pytest.raises(ValueError):
        Rule.of(rule)


SEGMENT = st.text("abcz.~-_%2e/\\@:?#*", max_size=12)


@given(SEGMENT, SEGMENT)
def test_whatever_is_let_through_the_standard_library_reads_alike(host: str, path: str) -> None:
    url = f"https://{host}example.com/v1/{path}"
    try:
        place = Place.of(url)
    except ValueError:
        return
    parts = urlsplit(url)
    assert (place.host, place.path) == (parts.hostname, parts.path or "/")
    segments = place.path.split("/")
    assert ".." not in segments
    assert "." not in segments
    if Rule.of("https://example.com/v1/**").allows(place):
        assert place.host == "example.com"
        assert place.path.startswith("/v1")


ADDRESSES = [
    ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("127.9.9.9", False), ("10.1.2.3", False),
    ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False),
    ("255.255.255.255", False), ("224.0.0.1", False), ("239.1.1.1", False), ("198.18.0.1", False), ("192.0.2.1", False),
    ("240.0.0.1", False), ("::", False), ("::1", False), ("fe80::1", False), ("fe80::1%eth0", False), ("fc00::1", False),
    ("ff02::1", False), ("2001:db8::1", False), ("::ffff:127.0.0.1", False), ("::ffff:8.8.8.8", True),
    ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True), ("2002:7f00:1::", False), ("2002:a00:1::1", False),
    ("::127.0.0.1", False), ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False), ("fec0::1", False),
]  # fmt: skip


@pytest.mark.parametrize(("address", "public"), ADDRESSES)
def test_only_public_addresses_are_connected_to(address: str, public: bool) -> None:
    assert is_allowed(ipaddress.ip_address(address), ()) is public


def test_a_private_range_is_open_where_it_is_named_and_only_that() -> None:
    private = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")]
    open_ = {text for text, _ in ADDRESSES if is_allowed(ipaddress.ip_address(text), private)}
    assert open_ - {text for text, public in ADDRESSES if public} == {"10.1.2.3"}
    assert is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), private)
    assert is_allowed(ipaddress.ip_address("fd12::1"), private)


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_in_every_dress(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    wanted = is_allowed(plain, ())
    assert is_allowed(ipaddress.ip_address(f"::ffff:{plain}"), ()) is wanted
    assert is_allowed(ipaddress.IPv6Address(int(ipaddress.ip_address("64:ff9b::")) + number), ()) is wanted
    assert is_allowed(ipaddress.IPv6Address((0x2002 << 112) + (number << 80)), ()) is wanted


def test_of_several_answers_only_the_public_ones_are_used() -> None:
    assert vetted("h", ["127.0.0.1", "8.8.8.8", "::1"], ()) == ["8.8.8.8"]
    with pytest.raises(NotAllowed) as caught:
        vetted("h", ["127.0.0.1", "10.0.0.1"], ())
    assert "10.0.0.1" not in str(caught.value)
    assert len(vetted("h", ["8.8.8.8"] * 50, ())) == ADDRESSES_MAX
