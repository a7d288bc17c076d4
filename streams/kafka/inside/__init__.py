"""Every use of aiokafka's private parts: one file each, with one contract test each in `tests/contracts`."""
