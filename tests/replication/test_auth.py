import pytest

from crdt.causality import ReplicaId
from replication.auth import Acceptor, Credentials, Dialer
from replication.local import PeerError
from replication.message import Alive, Challenge, Identity, Proof, Welcome

VOLUME, OTHER_VOLUME = b"v" * 16, b"w" * 16
SECRET, OTHER_SECRET = b"s" * 32, b"t" * 32
A = Identity(ReplicaId(1), "a", b"a" * 16)
B = Identity(ReplicaId(2), "b", b"b" * 16)
N1, N2, N3, N4 = (bytes([n]) * 32 for n in range(4))


def dialer(volume=VOLUME, secret=SECRET, identity=A, nonce=N1):
    return Dialer(Credentials(volume, secret, identity), nonce)


def acceptor(volume=VOLUME, secret=SECRET, identity=B, nonce=N2):
    return Acceptor(Credentials(volume, secret, identity), nonce)


def test_members_of_a_volume_learn_who_they_are():
    d, a = dialer(), acceptor()
    proof = d.prove(a.challenge(d.hello()))
    assert a.identify(proof) == A
    assert d.accept(a.welcome(A)) == B


def test_a_newcomer_that_knows_the_secret_is_known_as_one():
    d, a = dialer(identity=None), acceptor()
    assert a.identify(d.prove(a.challenge(d.hello()))) is None
    assert d.accept(a.welcome(None)) == B


@pytest.mark.parametrize("wrong", [{"secret": OTHER_SECRET}, {"volume": OTHER_VOLUME}])
def test_a_dialer_tells_nothing_to_one_that_is_no_member(wrong):
    d, a = dialer(), acceptor(**wrong)
    challenge = a.challenge(d.hello())
    assert A.store_id not in repr(d.hello()).encode()
    with pytest.raises(PeerError, match="not a member"):
        d.prove(challenge)


@pytest.mark.parametrize("wrong", [{"secret": OTHER_SECRET}, {"volume": OTHER_VOLUME}])
def test_a_dialer_that_is_no_member_is_refused_whatever_it_proves(wrong):
    d, a = dialer(**wrong), acceptor()
    challenge = a.challenge(d.hello())
    with pytest.raises(PeerError, match="not a member"):
        d.prove(challenge)
    forged = Proof(A, d.transcript.mac("proof", A))
    with pytest.raises(PeerError, match="not a member"):
        a.identify(forged)


def test_a_wrong_secret_and_another_volume_look_alike():
    texts = set()
    for wrong in ({"secret": OTHER_SECRET}, {"volume": OTHER_VOLUME}):
        d, a = dialer(**wrong), acceptor()
        a.challenge(d.hello())
        with pytest.raises(PeerError) as caught:
            a.identify(Proof(A, bytes(32)))
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_a_proof_cannot_be_replayed():
    d, a = dialer(), acceptor()
    proof = d.prove(a.challenge(d.hello()))
    later = acceptor(nonce=N3)
    later.challenge(d.hello())
    with pytest.raises(PeerError, match="not a member"):
        later.identify(proof)


def test_a_welcome_cannot_be_replayed():
    d, a = dialer(), acceptor()
    a.identify(d.prove(a.challenge(d.hello())))
    welcome = a.welcome(A)
    again, b = dialer(nonce=N3), acceptor()
    again.prove(b.challenge(again.hello()))
    with pytest.raises(PeerError, match="not a member"):
        again.accept(welcome)


def test_a_challenge_cannot_be_reflected():
    """One that knows no secret dials back and shows what it was shown."""
    victim_dials, victim_accepts = dialer(nonce=N1), acceptor(nonce=N2)
    oracle = victim_accepts.challenge(victim_dials.hello())
    # The macs of the two roles differ, so a challenge is no proof.
    with pytest.raises(PeerError, match="not a member"):
        victim_accepts.identify(Proof(A, oracle.mac))


def test_each_step_has_macs_of_its_own():
    d, a = dialer(), acceptor()
    d.prove(a.challenge(d.hello()))
    macs = {d.transcript.mac(step, A) for step in ("challenge", "proof", "welcome")}
    assert len(macs) == 3


def test_an_identity_cannot_be_exchanged():
    d, a = dialer(), acceptor()
    proof = d.prove(a.challenge(d.hello()))
    with pytest.raises(PeerError, match="not a member"):
        a.identify(Proof(B._replace(store_id=b"c" * 16), proof.mac))
    welcome = a.welcome(A)
    with pytest.raises(PeerError, match="not a member"):
        d.accept(Welcome(B._replace(name="c"), welcome.mac))


def test_a_newcomers_proof_is_no_members_proof():
    d, a = dialer(identity=None), acceptor()
    proof = d.prove(a.challenge(d.hello()))
    with pytest.raises(PeerError, match="not a member"):
        a.identify(Proof(A, proof.mac))


def test_a_copy_of_the_store_is_refused():
    d, a = dialer(identity=B), acceptor()
    with pytest.raises(PeerError, match="copy of its store"):
        a.identify(d.prove(a.challenge(d.hello())))


@pytest.mark.parametrize("message", [Alive(), Challenge(N1, N2), Proof(None, N1), Welcome(A, N1)])
def test_nothing_else_comes_before_the_hello(message):
    with pytest.raises(PeerError, match="where a hello was due"):
        acceptor().challenge(message)


def test_steps_come_in_order():
    d, a = dialer(), acceptor()
    with pytest.raises(PeerError, match="where a challenge was due"):
        d.prove(Welcome(A, N1))
    d.prove(a.challenge(d.hello()))
    with pytest.raises(PeerError, match="where a welcome was due"):
        d.accept(Alive())
    with pytest.raises(PeerError, match="where a proof was due"):
        a.identify(d.hello())
