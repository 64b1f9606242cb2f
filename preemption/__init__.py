"""Who gives way: from running work and a request that does not fit to the cheapest set of victims.

Candidates, what stopping each would cost, the budgets that bound the disruption, and victim sets
that are proven by packing to make the request fit, with no victim too many. Pure: it names victims;
stopping them is an action for others.
"""
