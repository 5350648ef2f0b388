-- Calls: the Fibonacci number of `size`, the recursive way.
local size = 35

local function fib(n)
  if n < 2 then return n end
  return fib(n - 2) + fib(n - 1)
end

local function expected(n)
  local a, b = 0, 1
  for _ = 1, n do
    a, b = b, a + b
  end
  return a
end

print(fib(size) == expected(size) and "right" or "wrong")
