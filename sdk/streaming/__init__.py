"""One stream as it runs: energy accounting, statistics, and the thread of callbacks."""
