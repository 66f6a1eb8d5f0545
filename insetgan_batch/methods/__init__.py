"""The methods: what may be done with a row. `names` finds one by its name."""
