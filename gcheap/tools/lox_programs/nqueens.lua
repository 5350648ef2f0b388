-- Queens over arrays: how many ways are there to place `size` of them?
local size = 12

local function place(n, row, columns, rising, falling)
  if row == n then return 1 end
  local found = 0
  for column = 1, n do
    local up = row + column
    local down = row - column + n + 1
    if not (columns[column] or rising[up] or falling[down]) then
      columns[column] = true
      rising[up] = true
      falling[down] = true
      found = found + place(n, row + 1, columns, rising, falling)
      columns[column] = false
      rising[up] = false
      falling[down] = false
    end
  end
  return found
end

local function filled(n)
  local made = {}
  for i = 1, n do made[i] = false end
  return made
end

local known = { 1, 0, 0, 2, 10, 4, 40, 92, 352, 724, 2680, 14200 }

if place(size, 0, filled(size), filled(2 * size), filled(2 * size)) == known[size] then
  print("right")
else
  print("wrong")
end
