"""What a worker can be inside the sandbox: a module each, `main(job, verdict, peer)`.

These modules, which come compiled with the job, and `worker.py` are all of mmalign that a sandbox
holds: they import the standard library and each other, nothing else. A role gets

- `job`: what the host sent: `program` {nonce, program}; `judge` {nonce, setup, tests,
  entry_points}; `candidate` {program, entry_points}; `suite` {nonce, program, tests};
- `verdict`: the private pipe to the host, binary and unbuffered; None where the role has none;
- `peer`: the stream socket to the other process of a check; None where it is alone.

Standard input, output and error are the job's own, the working directory is the empty work folder.
A verdict is one line of JSON: `{"nonce": job["nonce"], "status": ..., "num_run": ..., "num_passed":
..., "message": ...}`; a role that returns without one has given none.
"""
