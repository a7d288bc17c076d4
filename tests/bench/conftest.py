"""The peers are programs, not tests: some of them read their orders from the environment as they are imported."""

collect_ignore_glob = ["peers/*"]
