from slipway_loadtests.recording import Recorder


def test_a_connection_refused_before_the_load_failed_at_its_begin():
    """A negative time would come back from the sample file as one an hour later."""
    recorder = Recorder()
    recorder.failed(1_000, 1_000, 2_000, "connection refused")

    samples = recorder.samples(origin_ns=5_000_000, begin_ns=5_000_000, end_ns=9_000_000)

    assert (samples.planned_us.tolist(), samples.slip_us.tolist(), samples.service_us.tolist()) == ([0], [0], [0])


def test_each_request_keeps_which_answer_it_got():
    recorder = Recorder(follows=True)
    recorder.answered(3, 3, 4, 1)
    recorder.answered(1, 1, 2, 0)
    recorder.failed(2, 2, 3, "HTTP 503")
    recorder.answered(4, 4, 5)

    assert recorder.samples(0, 0, 9, fits=[2, 3]).fits.tolist() == [2, 0, 3, 0]
    assert recorder.samples(0, 0, 9, 1, fits=[2, 3]).fits.tolist() == [2, 0, 0]
    assert Recorder().samples(0, 0, 9).fits is None


def test_each_request_keeps_which_payload_it_sent():
    recorder = Recorder(numbered=True)
    recorder.answered(2, 2, 3, payload=7)
    recorder.failed(3, 3, 4, "HTTP 503")
    recorder.answered(1, 1, 2, payload=5)

    assert recorder.samples(0, 0, 9).payload.tolist() == [5, 7, -1]
    assert Recorder().samples(0, 0, 9).payload is None


def test_times_become_microseconds_in_the_order_in_which_requests_were_due():
    recorder = Recorder()
    recorder.answered(3_000_000, 3_500_000, 53_500_999)
    recorder.failed(1_000_000, 1_000_000, 1_000_500, "HTTP 503")
    recorder.answered(2_000_000, 2_000_000, 2_999_999)

    samples = recorder.samples(origin_ns=1_000_000, begin_ns=2_000_000, end_ns=9_000_000)

    assert (samples.origin_ns, samples.begin_us, samples.end_us) == (1_000_000, 1000, 8000)
    assert samples.planned_us.tolist() == [0, 1000, 2000]
    assert samples.slip_us.tolist() == [0, 0, 500]
    assert samples.service_us.tolist() == [0, 999, 50_000]
    assert samples.failed.tolist() == [True, False, False]
    assert recorder.errors == {"HTTP 503": 1}
    assert len(recorder) == 3
