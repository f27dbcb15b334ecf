"""Pools of candidates and the generators behind them."""
