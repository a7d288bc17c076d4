"""Every reach into private parts of aiokafka: one file each, one contract test each in `tests/contracts`."""
