from tests.replication.conformance import check_local
from tests.replication.fake import FakeLocal


def test_the_fake_is_a_replica():
    def make(number):
        local = FakeLocal(number)
        return local, lambda block: local.commit(b"file", [block])

    check_local(make)
