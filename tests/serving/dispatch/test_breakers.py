from catimage.serving.dispatch.breakers import CircuitBreakers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_after_consecutive_failures_only() -> None:
    breakers = CircuitBreakers(threshold=2, clock=Clock())
    breakers.fail("a")
    breakers.succeed("a")
    breakers.fail("a")
    assert breakers.begin("a")
    breakers.fail("a")
    assert not breakers.available("a") and not breakers.begin("a")
    assert breakers.begin("b")


def test_one_trial_at_a_time_decides_whether_the_breaker_closes() -> None:
    clock = Clock()
    breakers = CircuitBreakers(threshold=1, pause=10, longest=15, clock=clock)
    breakers.fail("a")
    assert breakers.state("a") == "open"
    clock.now = 10
    assert breakers.available("a") and breakers.begin("a")
    assert not breakers.begin("a") and breakers.state("a") == "half_open"
    breakers.fail("a")
    clock.now = 24.9
    assert not breakers.begin("a")  # twice the pause would be 20 seconds, the longest is 15
    clock.now = 25
    assert breakers.begin("a")
    breakers.succeed("a")
    assert breakers.begin("a") and breakers.begin("a") and breakers.state("a") == "closed"


def test_a_cancelled_trial_leaves_the_breaker_half_open() -> None:
    clock = Clock()
    breakers = CircuitBreakers(threshold=1, pause=10, clock=clock)
    breakers.fail("a")
    clock.now = 10
    assert breakers.begin("a")
    breakers.abandon("a")
    assert breakers.begin("a")
