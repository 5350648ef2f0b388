"""`accounts`, a workload in plain Python: amounts move between accounts, the sum never changes.

Live data of each mutator: accounts in a slot array, each with a history of its last eight entries.
One operation moves a random amount from one account to another, which gets a new entry.
"""
import random

from gcheap.options import Between
from gcheap.workloads import Workload, session_of, setting
from gcheap.workloads.plain import PlainWorker

ACCOUNT_BYTES = 8 * 56          # an account, its slot and eight entries
OPENING = 1000


class Accounts(PlainWorker):
    """One mutator of `accounts`."""

    DAMAGES = ("amount",)
    roots = ("table",)

    def __init__(self, heap, part):
        super().__init__(heap, part)
        self.count = part.share // ACCOUNT_BYTES
        self.most = part.settings["most"]
        self.random = random.Random(part.seed << 8 | part.index)
        self.balances = [OPENING] * self.count          # the model, outside the heap
        self.entries = 0
        self.Entry = heap.shape("accounts.Entry", refs=("before",), raw=[("amount", "i8")])
        self.Account = heap.shape("accounts.Account", refs=("last",),
                                  raw=[("number", "u8"), ("balance", "i8")])

    def start(self):
        self.table = self.mutator.new_slots(self.count)
        for number in range(self.count):
            self.table[number] = self.mutator.new(self.Account, number=number, balance=OPENING)
            self.populated = number / self.count

    def account(self, number):
        """The account of that number, checked."""
        account = self.table[number]
        if account is None or account.number != number:
            self.fail(f"account {number} is lost")
            return None
        if account.balance != self.balances[number]:
            self.fail(f"account {number} has {account.balance}, expected {self.balances[number]}")
        return account

    def operation(self):
        source, target = (self.random.randrange(self.count) for _ in range(2))
        amount = self.random.randint(1, self.most)
        self.add(source, -amount)
        self.add(target, amount)

    def add(self, number, amount):
        account = self.account(number)
        if account is None:
            return
        account.last = self.mutator.new(self.Entry, before=account.last, amount=amount)
        self.cut(account.last)
        account.balance += amount
        self.balances[number] += amount
        self.entries += 1

    def cut(self, entry, keep=8):
        """Drops what is older than the last entries."""
        for _ in range(keep - 1):
            if entry.before is None:
                return
            entry = entry.before
        entry.before = None

    def check_all(self):
        total = sum(account.balance for number in range(self.count)
                    if (account := self.account(number)) is not None)
        if total != self.count * OPENING:
            self.fail(f"the sum is {total}, expected {self.count * OPENING}")

    def break_one(self, _what):
        self.table[0].balance += 1

    def counts(self):
        return {"entries": self.entries}

    def sizes(self):
        return {"accounts_a_mutator": self.count}


WORKLOAD = Workload(
    "accounts", "a workload in plain Python: what the Python face costs",
    session_of(lambda: Accounts), least=64 << 10,
    settings=(setting("most", Between(1, 10**6), 100, "the largest amount"),))
