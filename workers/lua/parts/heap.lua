-- A list of which the first one is before all others, whatever the order of the rest.

-- The one at this place has changed, or is new: down to where it belongs now.
local function sink(heap, at, before)
  local it, size = heap[at], #heap
  while 2 * at <= size do
    local child = 2 * at
    if child < size and before(heap[child + 1], heap[child]) then child = child + 1 end
    if not before(heap[child], it) then break end
    heap[at], at = heap[child], child
  end
  heap[at] = it
end

local function make_heap(list, before)
  for at = math.floor(#list / 2), 1, -1 do sink(list, at, before) end
end

local function drop_first(heap, before)
  local last = table.remove(heap)
  if #heap > 0 then
    heap[1] = last
    sink(heap, 1, before)
  end
end
