"""The inbox gives what was put in its order, and knows about how many bytes wait."""

from edgevent.runtime.inbox import Inbox


def test_units_come_out_in_the_order_in_which_they_came() -> None:
    inbox = Inbox()
    found: list[int] = []
    for start in range(0, 30, 3):
        inbox.put([start, start + 1, start + 2], 3)
        found += [inbox.take(), inbox.take()]
    while inbox.units:
        assert inbox.peek() == len(found)
        found.append(inbox.take())
    assert found == list(range(30))
    assert (inbox.left, inbox.size) == (0, 0)


def test_the_size_goes_down_as_units_are_taken() -> None:
    inbox = Inbox(mark=150)
    inbox.put(list("abcd"), 100)
    inbox.put(list("ef"), 100)
    assert inbox.is_full
    sizes = []
    while inbox.units:
        sizes.append((inbox.left, inbox.size))
        inbox.take()
    assert sizes == [(6, 200), (5, 175), (4, 150), (3, 125), (2, 100), (1, 50)]
    assert (inbox.size, inbox.is_full) == (0, False)


def test_what_is_weighed_counts_until_the_last_unit_is_taken() -> None:
    inbox = Inbox()
    inbox.weigh(1000)
    inbox.put(["a", "b"], 10)
    assert inbox.size == 1010
    inbox.take()
    assert inbox.size == 1005
    inbox.take()
    assert inbox.size == 0


def test_a_unit_may_be_replaced_before_it_is_taken() -> None:
    inbox = Inbox()
    inbox.put(["a", "b"], 2)
    inbox.replace("c")
    assert [inbox.take(), inbox.take()] == ["c", "b"]


def test_nothing_is_left_once_it_is_cleared() -> None:
    inbox = Inbox()
    inbox.put(["a"], 10)
    inbox.put([], 0)
    inbox.put(["b"], 10)
    inbox.clear()
    assert (inbox.left, inbox.size, inbox.units) == (0, 0, [])
    inbox.put(["c"], 7)
    assert (inbox.take(), inbox.left, inbox.size) == ("c", 0, 0)
