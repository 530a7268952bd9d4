using Qkvm.Core.Block;

namespace Qkvm.Storage.Tests;

/// <summary>A host whose disk is full every second time.</summary>
static class FullHost
{
    /// <summary>Writes here and there; what fails succeeds once there is room.</summary>
    /// <param name="model">What the disk holds before and after.</param>
    /// <returns>Writes that failed.</returns>
    public static async Task<int> Fill(MemoryFile file, BlockDriver image, byte[] model, Random random, int writes)
    {
        int failures = 0;
        for (int i = 0; i < writes; i++)
        {
            int length = 512 * random.Next(1, 60), at = random.Next((model.Length - length) / 512) * 512;
            byte[] data = BlockDriverExtensions.Pattern(i, length);
            file.WritesUntilError = i % 2 == 0 ? random.Next(4) : int.MaxValue;
            try
            {
                await image.Write(at, data);
                if (i % 4 == 0) await image.FlushAsync();
            }
            catch (BlockException e)
            {
                Assert.Equal(28, e.Errno);
                failures++;
                file.WritesUntilError = int.MaxValue;
                await image.Write(at, data);                       // as werror=stop does after the user made room
                await image.FlushAsync();
            }
            data.CopyTo(model, at);
        }
        file.WritesUntilError = int.MaxValue;
        return failures;
    }
}
