"""Everything that decides as a whole, and everything that touches the world.

One tick reads: observe, forecast, size, lend, pack, preempt, act, record. `planning` decides, in
values alone; `ports` names what it needs from the world; `view` holds the newest answer; `daemon`,
`extender` and `adapters` are the shell, `simulation` is the world that it runs against so far;
`child` starts processes of our own; `wiring` joins the parts and `cli` is what a person calls.
Arrows point one way:
cli -> wiring -> simulation -> (daemon | extender | adapters) -> view -> ports -> planning.
"""
