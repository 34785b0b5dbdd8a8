"""What calls cost: prices, budgets, prompt caches."""
