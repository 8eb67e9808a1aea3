"""The durable record of jobs and transactions; never a decision of when a call may leave."""
