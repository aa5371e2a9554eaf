"""Which ways to run a variant are offered: schedules, stop rules and learned policies, judged out of fold."""
