from replication.backoff import Backoff


class Constant:
    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def waits(value: float, count: int) -> list[float]:
    backoff = Backoff(0.1, 2.0, Constant(value))
    return [round(backoff.failed(), 3) for _ in range(count)]


def test_waits_double_up_to_a_bound_and_vary_by_half():
    assert waits(0.0, 7) == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert waits(1.0, 7) == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_after_a_success_it_begins_anew():
    backoff = Backoff(0.1, 2.0, Constant(1.0))
    for _ in range(5):
        backoff.failed()
    backoff.succeeded()
    assert backoff.failed() == 0.1
