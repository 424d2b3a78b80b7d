"""Anti-entropy: how replicas that meet tell each other what they have seen.

To read in this order: `local` (what a replica must offer), `message` (what is said) and `wire` (its
bytes), `auth` (who may speak), `session` (one peer, without any I/O) with `staging` and `fetch`
(commits and blocks on their way here), `connection` (a session on a WebSocket), `client` and
`server` (who calls whom), `hub` (all peers of a replica), `standing` (what is known of them).
"""
