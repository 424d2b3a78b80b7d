"""Whole replicas in one thread, from one seed: `elmer sim`.

What runs is the production code of translation, crdt and the sessions of replication, on stores whose
power can be cut at any batch.  Only clock, network, disk and programs are simulated, and nothing random
happens but from the seed, so the same seed gives the same trace twice.  Small worlds on purpose: two to
five replicas, two to four names, so that everything collides.

In the order in which to read:

- `cluster`: sites with their clocks, stores and connections.
- `programs`, `handles`, `editors`, `trees`: what programs do there; `ledger`: what they were promised.
- `world`: plays one step, and looks whether the laws hold at the replica that it touched.
- `locality`: law L2, what a program may change.
- `extension`: law L4, what a merged write may change.
- `laws`: their names; `healed`: what must hold when all have heard of all, as tests.reference has it;
  `observer`: who hears of the same in another order.
- `histories`: draws steps that make sense for what a replica shows.
- `play`: grows a history from a seed, plays it again, and shortens one that fails.
- `ranges`: many seeds, in several processes.
"""
