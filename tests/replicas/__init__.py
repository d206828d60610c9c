"""Programs that the tests of distributed training start, since devices and workers are settled once for a process."""
